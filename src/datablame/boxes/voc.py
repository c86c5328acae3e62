"""Pascal VOC: an XML file an image, an object a box.

Everingham et al., 2010. The Pascal visual object classes challenge. IJCV 88.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from datablame.base.decode import endings
from datablame.base.errors import InputError
from datablame.base.readers import read_text
from datablame.boxes.box import SPLITS, Box, Changes, under

HOMES = ("Annotations", "annotations")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Voc:
    """The boxes of a folder of XML files. Names end in the number of the object in its file."""

    ending = ""

    def __init__(self, root: Path, files: list[Path]):
        self.root, self.files = root.absolute(), files
        names = {_word(each, "name") for path in files for each in _objects(_tree(path))}
        if "" in names:
            raise InputError(f"{root}: one of its objects has no name")
        self.classes = tuple(sorted(names))

    def boxes(self) -> Iterator[Box]:
        """Raises InputError for an image outside of the root."""
        number = {name: k for k, name in enumerate(self.classes)}
        for path in self.files:
            tree = _tree(path)
            image = self._image(path, tree)
            wide, high = (_real(_part(tree, "size"), name, 0.0) for name in ("width", "height"))
            for key, each in enumerate(_objects(tree), 1):
                left, top, right, bottom = (_real(_part(each, "bndbox"), name) for name in CORNERS)
                place = (left, top, right - left, bottom - top, wide, high)
                yield Box(image, key, number[_word(each, "name")], place)

    def _image(self, path: Path, tree: ElementTree.Element) -> str:
        """The image of an XML file: of the name that it tells, or of its own."""
        told = _word(tree, "filename").replace("\\", "/").rpartition("/")[2]
        beside = [path.parent.parent / name for name in ("JPEGImages", "images")]
        names = [told, *(path.stem + end for end in sorted(endings()))]
        for home in (*beside, path.parent, self.root):
            for name in names:
                if name and (home / name).is_file():
                    return under(self.root, str(home / name), path)
        return told or path.stem

    def changed(self, to: Changes) -> Iterator[tuple[str, bytes]]:
        """The XML files, with the names of these objects changed, or the objects left out."""
        touched = {name.rpartition("#")[0] for name in to}
        for path in self.files:
            tree = _tree(path)
            image = self._image(path, tree)
            for key, each in enumerate(_objects(tree), 1):
                name = f"{image}#{key}"
                label = to.get(name, -1)
                if label is None:
                    tree.remove(each)
                elif label >= 0:
                    found = _part(each, "name")
                    assert found is not None  # it was read
                    found.text = self.classes[label]
            content = ElementTree.tostring(tree) if image in touched else path.read_bytes()
            yield under(self.root, str(path.absolute()), path), content


def _tree(path: Path) -> ElementTree.Element:
    """The annotation of a file. Raises InputError where it is none, or could do more than tell."""
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"{path} declares entities, which an annotation does not need: not read")
    try:
        keep = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
        tree = ElementTree.fromstring(text, keep)  # as UTF-8, whatever its head says
    except (ElementTree.ParseError, RecursionError, ValueError, LookupError) as error:
        raise InputError(f"{path} cannot be read as XML: {error}") from None
    if tree.tag != "annotation":
        raise InputError(f"{path} is no Pascal VOC file: it is <{tree.tag}>, not <annotation>")
    return tree


def _objects(tree: ElementTree.Element) -> list[ElementTree.Element]:
    return tree.findall("object")


def _part(element: ElementTree.Element, name: str) -> ElementTree.Element | None:
    return next(iter(element.findall(name)), None)


def _word(element: ElementTree.Element, name: str) -> str:
    found = _part(element, name)
    return (found.text or "").strip() if found is not None else ""


def _real(element: ElementTree.Element | None, name: str, without: float = math.nan) -> float:
    """A number, or what stands for none."""
    try:
        return float(_word(element, name)) if element is not None else without
    except ValueError:
        return without


def holds(folder: Path) -> bool:
    """Whether there are XML files in a folder of their own, or beside images of their names."""
    if any(any((folder / name).glob("*.xml")) for name in HOMES):
        return True
    beside = (next((folder / name).glob("*.xml"), None) for name in (".", *SPLITS["train"]))
    return any(
        path is not None and any(path.with_suffix(end).is_file() for end in endings())
        for path in beside
    )


def read(folder: Path, split: str) -> Voc | None:
    """The set of a folder with XML files, in a folder of their own or beside their images; None
    where it has no such split: by `ImageSets/Main/train.txt`, or by folders of these names.
    """
    lists = folder / "ImageSets" / "Main"
    words = [*SPLITS[split], *(["trainval"] if split == "train" else [])]
    home = next((folder / name for name in HOMES if any((folder / name).glob("*.xml"))), None)
    if home is not None and lists.is_dir():
        listed = next(
            (lists / f"{word}.txt" for word in words if (lists / f"{word}.txt").is_file()), None
        )
        if listed is None:
            return None
        stems = [line.split()[0] for line in read_text(listed).splitlines() if line.strip()]
        return Voc(folder, [path for stem in stems if (path := home / f"{stem}.xml").is_file()])
    there = sorted((home or folder).glob("*.xml"))
    if there:
        return Voc(folder, there) if split == "train" else None
    for word in words:
        if files := sorted((folder / word).glob("*.xml")):
            return Voc(folder, files)
    return None
