import hashlib
import http.server
import io
import tarfile
import threading

import numpy as np
import pytest

from rapid_inr.data.download import DownloadFailed, extract, fetch

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT whole, or what `server.sends` says of it; counts the requests."""

    def do_GET(self):
        self.server.requests += 1
        if self.path != "/data.bin":
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: self.server.sends])
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.sends, server.requests = len(CONTENT), 0
        server.url = f"http://127.0.0.1:{server.server_address[1]}/data.bin"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_file_is_downloaded_once(server, tmp_path):
    path = tmp_path / "new" / "data.bin"
    assert fetch(server.url, path, MD5) == path
    assert path.read_bytes() == CONTENT
    fetch(server.url, path, MD5)
    assert server.requests == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["data.bin"]


def test_a_file_with_another_checksum_is_downloaded_again(server, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(b"old")
    fetch(server.url, path, MD5)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("sends", [0, 100_000])
def test_a_connection_that_breaks_leaves_what_was_there(server, tmp_path, sends):
    server.sends = sends
    (tmp_path / "data.bin").write_bytes(b"old")
    with pytest.raises(DownloadFailed, match=r"/data\.bin: .*; run the same command again"):
        fetch(server.url, tmp_path / "data.bin", MD5)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_wrong_checksum_leaves_nothing_behind(server, tmp_path):
    with pytest.raises(DownloadFailed, match=f"MD5 is {MD5}, expected {'0' * 32}"):
        fetch(server.url, tmp_path / "data.bin", "0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_gone_is_named(server, tmp_path):
    with pytest.raises(DownloadFailed, match=r"/gone\.bin: HTTP Error 404"):
        fetch(server.url.replace("data", "gone"), tmp_path / "gone.bin", MD5)


def test_a_server_that_is_not_there_is_named(server, tmp_path):
    address = server.url.replace(f":{server.server_address[1]}", ":1")
    with pytest.raises(DownloadFailed, match=r"http://127\.0\.0\.1:1/data\.bin"):
        fetch(address, tmp_path / "data.bin", MD5)


def make_archive(path, names):
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    return path


def test_an_archive_is_unpacked_beside_what_is_there(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("mine")
    (tmp_path / "set" / "a.bin").write_text("old")
    archive = make_archive(tmp_path / "set.tar.gz", ["set/a.bin", "set/deep/b.bin", "top.txt"])
    extract(archive, tmp_path)
    found = {
        str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file() and path != archive
    }
    assert found == {"set/mine.txt": "mine", "set/a.bin": "set/a.bin", "set/deep/b.bin": "set/deep/b.bin", "top.txt": "top.txt"}


@pytest.mark.parametrize("name", ["../outside.txt", "set/../../outside.txt"])
def test_an_archive_cannot_write_outside_its_folder(tmp_path, name):
    (tmp_path / "in").mkdir()
    archive = make_archive(tmp_path / "evil.tar.gz", ["set/a.bin", name])
    with pytest.raises(DownloadFailed, match=r"evil\.tar\.gz: cannot be unpacked"):
        extract(archive, tmp_path / "in")
    assert [path.name for path in tmp_path.rglob("*")] in (["evil.tar.gz", "in"], ["in", "evil.tar.gz"])


@pytest.mark.parametrize("keep", [0, 10, -20])
def test_a_broken_archive_is_named_and_leaves_nothing(tmp_path, keep):
    archive = make_archive(tmp_path / "set.tar.gz", ["set/a.bin", "set/b.bin"])
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(DownloadFailed, match=r"set\.tar\.gz: cannot be unpacked"):
        extract(archive, tmp_path)
    assert list(tmp_path.iterdir()) == [archive]
