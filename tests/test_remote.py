"""Sets that lie elsewhere: an object store (moto's server) and a plain web server, both here."""

import http.server
import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import TINY
from pyarrow import parquet
from test_table import write

import datablame as db
from datablame.base import remote
from datablame.base.errors import InputError
from datablame.verbs.reading import Reading, read, splits


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """A cache of its own, no waiting, nothing remembered."""
    monkeypatch.setenv("DATABLAME_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "PAUSE", 0.0)
    monkeypatch.setattr(remote, "SEEN", {})
    monkeypatch.setattr(remote, "STORES", {})
    remote._fsspec.cache_clear()


@pytest.fixture(scope="module")
def server():
    moto = pytest.importorskip("moto.server")
    found = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    found.start()
    yield "http://{}:{}".format(*found.get_host_and_port())
    found.stop()


def known_as(monkeypatch, secret, address):
    """Credentials for an object store at an address."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)


@pytest.fixture
def bucket(server, monkeypatch):
    """An empty bucket: a function that puts files into it, and takes them away."""
    import boto3

    known_as(monkeypatch, "mine", server)
    client = boto3.client("s3")
    client.create_bucket(Bucket="photos")
    yield client
    for each in client.list_objects_v2(Bucket="photos").get("Contents", []):
        client.delete_object(Bucket="photos", Key=each["Key"])
    client.delete_bucket(Bucket="photos")


def put(client, home, below=""):
    for path in sorted(home.rglob("*")):
        if path.is_file():
            client.put_object(
                Bucket="photos", Key=below + str(path.relative_to(home)), Body=path.read_bytes()
            )


@pytest.fixture
def photos(tmp_path, png):
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(6):
            (tmp_path / "set" / name / f"{i}.png").write_bytes(png((200 * k, 30 * i, 9)))
    return tmp_path / "set"


def same(one, other):
    assert one.pixels.digest == other.pixels.digest
    assert one.labels.tolist() == other.labels.tolist()
    assert one.classes == other.classes


def test_every_kind_of_source_is_read_from_an_object_store(bucket, photos, tmp_path):
    here = read(photos)
    files = sorted(photos.rglob("*.png"))
    labels = [path.parent.name for path in files]
    there = tmp_path / "there"
    shutil.copytree(photos, there / "folder")
    rows = [
        {"path": f"folder/{n}/{p.name}", "label": n} for p, n in zip(files, labels, strict=True)
    ]
    write(there / "list.csv", rows)
    (there / "deep").mkdir()
    write(there / "deep" / "list.jsonl", [r | {"path": "s3://photos/" + r["path"]} for r in rows])
    with zipfile.ZipFile(there / "photos.zip", "w") as packed:
        for path in files:
            packed.write(path, path.relative_to(photos))
    cells = [{"bytes": path.read_bytes(), "path": None} for path in files]
    (there / "parts").mkdir()
    parquet.write_table(pa.table({"image": cells, "label": labels}), there / "parts/train.parquet")
    put(bucket, there)
    for name in (
        "folder",
        "list.csv",
        "deep/list.jsonl",
        "photos.zip",
        "parts",
        "parts/train.parquet",
    ):
        same(here, read(f"s3://photos/{name}"))
    write(tmp_path / "own.csv", [r | {"path": r["path"].removeprefix("folder/")} for r in rows])
    same(here, read(tmp_path / "own.csv", reading=Reading(root="s3://photos/folder")))
    names = read("s3://photos/folder").names.to_pylist()
    assert names == here.names.to_pylist()


def test_keys_with_odd_signs_are_kept_apart(bucket, photos):
    content = sorted(photos.rglob("*.png"))
    keys = ["a/x#1.png", "a/x#2.png", "b/50%.png", "b/50%25.png", "b/q?.png"]
    for key, path in zip(keys, content, strict=False):
        bucket.put_object(Bucket="photos", Key=f"odd/{key}", Body=path.read_bytes())
    data = read("s3://photos/odd")
    assert sorted(data.names.to_pylist()) == sorted(keys)


def test_a_bucket_that_may_not_be_listed_is_read(bucket, photos, monkeypatch, tmp_path):
    """Some may read the objects that they know, and list none."""
    from pyarrow import fs

    write(tmp_path / "list.csv", [{"path": f"s3://photos/set/{p.parent.name}/{p.name}", "label": p.parent.name} for p in sorted(photos.rglob("*.png"))])  # fmt: skip
    put(bucket, photos, "set/")
    asked = []

    class Store(fs.S3FileSystem):
        def get_file_info(self, what):
            asked.append(what)
            assert not isinstance(what, fs.FileSelector), "it was listed"
            return super().get_file_info(what)

    monkeypatch.setattr(fs, "S3FileSystem", Store)
    assert len(read(tmp_path / "list.csv")) == 12
    assert asked


def test_half_of_a_folder_does_not_serve_offline(bucket, photos, monkeypatch):
    put(bucket, photos, "set/")
    bring, left = remote._bring, [5]

    def some(fs, thing, *more):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        bring(fs, thing, *more)

    monkeypatch.setattr(remote, "THREADS", 1)
    monkeypatch.setattr(remote, "_bring", some)
    with pytest.raises(KeyboardInterrupt):
        read("s3://photos/set")
    monkeypatch.setattr(remote, "_bring", bring)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for where in ("s3://photos/set", "s3://photos"):
        with pytest.raises(InputError, match="was not fetched before"):
            read(where)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert len(read("s3://photos/set")) == 12


def test_what_has_not_changed_is_not_fetched_again(bucket, photos, monkeypatch):
    put(bucket, photos, "set/")
    asked = []
    bring = remote._bring
    monkeypatch.setattr(
        remote,
        "_bring",
        lambda fs, thing, *more: (asked.append(thing.path), bring(fs, thing, *more)),
    )
    read("s3://photos/set")
    assert len(asked) == 12
    read("s3://photos/set")
    remote.SEEN.clear()
    read("s3://photos/set")
    assert len(asked) == 12
    remote.SEEN.clear()
    bucket.delete_object(Bucket="photos", Key="set/cat/1.png")
    other = (photos / "dog" / "5.png").read_bytes()
    bucket.put_object(Bucket="photos", Key="set/cat/2.png", Body=other)
    data = read("s3://photos/set")
    assert asked[12:] == ["photos/set/cat/2.png"]
    assert "cat/1.png" not in data.names.to_pylist()
    assert (data.pixels.array[1] == data.pixels.array[-1]).all()


def test_a_run_of_an_address_is_opened_cleaned_and_needs_no_network(
    bucket, photos, tmp_path, monkeypatch
):
    put(bucket, photos, "set/")
    data, test = splits("s3://photos/set", Reading(holdout=0.0))
    run = db.train(data, recipe=TINY, out=tmp_path / "runs", test=test)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    remote.SEEN.clear()
    same(data, read("s3://photos/set"))
    kept = db.Run(run.path).data
    assert kept.images.content(3) == (photos / "cat" / "3.png").read_bytes()
    with pytest.raises(InputError, match="was not fetched before, and --offline"):
        read("s3://photos/other")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("s3://photos/nothing", "there is nothing at s3://photos/nothing"),
        ("s3://nobody/x", "nothing at s3://nobody/x|there is no bucket s3://nobody"),
        ("s3://me:mine@photos/x", "holds a password"),
        ("s3://photos/../x", "leads out of its folder"),
        ("ftp://photos/x", "no address that is read here"),
        ("s3:///x", "names none"),
    ],
)
def test_addresses_that_lead_nowhere(bucket, where, message):
    with pytest.raises(InputError, match=message) as found:
        read(where)
    assert "mine" not in str(found.value)


def test_keys_that_lead_out_are_refused(bucket, photos, tmp_path):
    put(bucket, photos, "set/")
    bucket.put_object(Bucket="photos", Key="set/cat/a\\..\\b.png", Body=b"x")
    with pytest.raises(InputError, match="leads out of its folder"):
        read("s3://photos/set")


def test_a_full_disk_is_told_before(bucket, photos, monkeypatch):
    put(bucket, photos, "set/")
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"holds .*, and 10 B are free .* DATABLAME_CACHE"):
        read("s3://photos/set")
    assert not any(remote.place("s3://photos/set").rglob("*.png"))


class Web(http.server.BaseHTTPRequestHandler):
    """Files from a folder; ranges where it gives any; breaks off, hangs or refuses where asked."""

    home = Path()
    ranges, tag = True, "one"
    broken = 0
    status = 200
    asked: list = []  # noqa: RUF012

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        own = type(self)
        path = own.home / self.path.strip("/").partition("?")[0]
        own.asked.append((self.command, self.path, self.headers.get("Range")))
        if own.status != 200 or not path.is_file():
            self.send_error(own.status if own.status != 200 else 404)
            return
        content, start = path.read_bytes(), 0
        if own.ranges and (part := self.headers.get("Range")):
            start, _, end = part.removeprefix("bytes=").partition("-")
            start = int(start)
            whole, content = len(content), content[start : int(end) + 1 if end else None]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{whole}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes" if own.ranges else "none")
        if own.tag:
            self.send_header("ETag", own.tag)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body and own.broken:
            own.broken -= 1
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.connection.close()
        elif body:
            self.wfile.write(content)


@pytest.fixture
def web(tmp_path):
    """A web server: (its handler's class, its address)."""
    (tmp_path / "web").mkdir()
    handler = type("Own", (Web,), {"home": tmp_path / "web", "asked": []})
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{found.server_port}"
    found.shutdown()
    found.server_close()


@pytest.fixture
def noise(tmp_path):
    """Class folders in a zip file of some megabytes."""

    def make(path):
        from datablame.base import decode

        generator = np.random.default_rng(0)
        path.parent.mkdir(exist_ok=True, parents=True)
        with zipfile.ZipFile(path, "w") as packed:
            for k in range(6):
                pixels = generator.integers(0, 256, (3, 400, 400), dtype="uint8")
                packed.writestr(f"{'ab'[k % 2]}/{k}.png", decode.encoded(decode.picture(pixels)))
        return path

    return make


@pytest.mark.parametrize("ranges", [True, False])
def test_a_dropped_connection_is_gone_on_from(web, noise, ranges):
    handler, address = web
    there = noise(handler.home / "photos.zip")
    handler.broken, handler.ranges = 1, ranges
    data = read(f"{address}/photos.zip")
    same(read(there), data)
    kept = remote.place(f"{address}/photos.zip")
    assert kept.read_bytes() == there.read_bytes()
    starts = [part for command, _, part in handler.asked if command == "GET"]
    assert starts[0] is None
    assert any(part and not part.startswith("bytes=0-") for part in starts[1:]) or not ranges


def test_a_connection_that_drops_for_ever_is_told_and_resumed_later(web, noise):
    handler, address = web
    there = noise(handler.home / "photos.zip")
    handler.broken = 1000
    with pytest.raises(
        InputError, match=r"cannot be fetched, tried 5 times.*run the same command again"
    ):
        read(f"{address}/photos.zip")
    kept = remote.place(f"{address}/photos.zip")
    assert not kept.exists()
    part = next(kept.parent.glob(".photos.zip.*.fetch"))
    assert 0 < part.stat().st_size < there.stat().st_size
    handler.broken = 0
    read(f"{address}/photos.zip")
    assert kept.read_bytes() == there.read_bytes()
    assert not part.exists()


def test_another_version_is_fetched_anew(web, photos):
    handler, address = web
    labels = "path,label\n" + "".join(
        f"{n}/{i}.png,{n}\n" for n in ("cat", "dog") for i in range(3)
    )
    shutil.copytree(photos, handler.home, dirs_exist_ok=True)
    (handler.home / "list.csv").write_text(labels)
    assert len(read(f"{address}/list.csv")) == 6
    (handler.home / "list.csv").write_text(labels.replace("cat/0.png,cat", "cat/0.png,dog"))
    handler.tag = "two"
    remote.SEEN.clear()
    assert read(f"{address}/list.csv").labels.tolist() == [1, 0, 0, 1, 1, 1]


def test_a_server_that_tells_no_version_is_asked_again(web, photos):
    handler, address = web
    handler.tag = None
    shutil.copytree(photos, handler.home, dirs_exist_ok=True)
    (handler.home / "list.csv").write_text("path,label\ncat/0.png,cat\ndog/1.png,dog\n")
    assert read(f"{address}/list.csv").labels.tolist() == [0, 1]
    (handler.home / "list.csv").write_text("path,label\ncat/0.png,dog\ndog/1.png,cat\n")
    remote.SEEN.clear()
    assert read(f"{address}/list.csv").labels.tolist() == [1, 0]


def test_numbers_in_a_message_are_no_denial(monkeypatch):
    tries = []

    def broken():
        tries.append(1)
        raise OSError("1,401 of 2,403 bytes came of img_00403.jpg")

    with pytest.raises(InputError, match="tried 5 times"):
        remote._patiently("https://x/y", broken)
    assert len(tries) == 5


def test_a_signature_is_neither_told_nor_kept(web, noise, tmp_path):
    from datablame.verbs.reading import named

    handler, address = web
    noise(handler.home / "photos.zip")
    where = f"{address}/photos.zip?key=SECRET"
    assert len(read(where)) == 6
    kept = named(
        where, Reading(test=f"{address}/other.zip?key=SECRET", root=f"{address}/x?key=SECRET")
    )
    assert "SECRET" not in str(kept)
    assert kept["source"] == f"{address}/photos.zip"
    handler.status = 403
    remote.SEEN.clear()
    with pytest.raises(InputError) as found:
        read(where)
    assert "SECRET" not in str(found.value)


@pytest.mark.parametrize("where", ["https://h/?x=1", "https://[::1/x", "http://?", "s3://"])
def test_odd_addresses_are_sentences(where):
    with pytest.raises(InputError):
        read(where)


def test_a_signed_address_is_kept_by_its_signature(web, photos):
    handler, address = web
    table = pa.table({"image": [{"bytes": p.read_bytes(), "path": None} for p in sorted(photos.rglob("*.png"))], "label": [0] * 6 + [1] * 6})  # fmt: skip
    parquet.write_table(table, handler.home / "train.parquet")
    data = read(f"{address}/train.parquet?sign=abc")
    same(read(handler.home / "train.parquet"), data)
    assert any(path.endswith("?sign=abc") for _, path, _ in handler.asked)


@pytest.mark.parametrize("status", [401, 403])
def test_what_may_not_be_read_is_told_at_once(web, status):
    handler, address = web
    handler.status = status
    with pytest.raises(InputError, match="may not be read with the credentials"):
        read(f"{address}/photos.zip")
    assert len(handler.asked) <= 2


def test_a_server_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be fetched, tried 5 times: ClientConnectorError"):
        read("http://127.0.0.1:9/photos.zip")


def test_an_object_store_that_denies_is_told(web, monkeypatch):
    handler, address = web
    handler.status = 403
    known_as(monkeypatch, "wrong", address)
    with pytest.raises(InputError, match="s3://secret may not be read with the credentials"):
        read("s3://secret/photos")


def test_images_of_a_table_that_are_gone_are_left_out(web, photos, capsys):
    handler, address = web
    shutil.copytree(photos, handler.home, dirs_exist_ok=True)
    (handler.home / "cat" / "1.png").unlink()
    rows = "path,label\n" + "".join(f"{n}/{i}.png,{n}\n" for n in ("cat", "dog") for i in range(3))
    (handler.home / "list.csv").write_text(rows)
    assert len(read(f"{address}/list.csv")) == 5
    assert "left out 1 images that cannot be read: cat/1.png" in capsys.readouterr().err


def test_addresses_beside_paths_are_refused(tmp_path):
    write(tmp_path / "list.csv", [{"path": "https://x.invalid/a.png", "label": "a"}, {"path": "b.png", "label": "b"}])  # fmt: skip
    with pytest.raises(InputError, match=r"some images are addresses, and b\.png is none"):
        read(tmp_path / "list.csv")
