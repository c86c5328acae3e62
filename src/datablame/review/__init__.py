"""The page where a person decides: queues, decisions, a server. It must not know how labels are
judged.
"""
