"""Boxes drawn on images, as COCO, YOLO and Pascal VOC keep them: read, and written back with other
classes. It must not know packing or models.
"""
