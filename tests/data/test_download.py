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
    """Serves CONTENT, the way that `server.behaviour` says; notes the range that each request asked for."""

    def do_GET(self):
        behaviour, asked = self.server.behaviour, self.headers.get("Range")
        self.server.ranges.append(asked)
        if self.path != "/data.bin":
            return self.send_error(404)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and behaviour != "no ranges" else 0
        if asked and behaviour == "another range":
            start += 1
        if start >= len(CONTENT):
            return self.send_error(416)
        self.send_response(206 if asked and behaviour != "no ranges" else 200)
        if asked and behaviour != "no ranges":
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        body = CONTENT[start:]
        if behaviour == "drops":
            body = body[:100_000]
        elif behaviour == "drops at once":
            body = b""
        self.wfile.write(body)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.behaviour, server.ranges = "whole", []
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
    assert server.ranges == [None]
    assert [entry.name for entry in path.parent.iterdir()] == ["data.bin"]


def test_a_file_with_another_checksum_is_downloaded_again(server, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(b"old")
    fetch(server.url, path, MD5)
    assert path.read_bytes() == CONTENT


def test_a_partial_file_is_resumed(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:12_345])
    fetch(server.url, tmp_path / "data.bin", MD5)
    assert server.ranges == ["bytes=12345-"]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_complete_partial_file_only_needs_its_name(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    fetch(server.url, tmp_path / "data.bin", MD5)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_dropped_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.behaviour = "drops"
    fetch(server.url, tmp_path / "data.bin", MD5)
    assert server.ranges == [None, "bytes=100000-", "bytes=200000-"]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_what_arrived_is_kept_when_the_connection_keeps_breaking(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:7])
    server.behaviour = "drops at once"
    with pytest.raises(DownloadFailed, match=r"data\.bin\.part: run the same command to go on"):
        fetch(server.url, tmp_path / "data.bin", MD5)
    assert (tmp_path / "data.bin.part").read_bytes() == CONTENT[:7]
    assert not (tmp_path / "data.bin").exists()
    assert len(server.ranges) < 10


@pytest.mark.parametrize("behaviour", ["no ranges", "another range"])
def test_a_server_that_does_not_resume_sends_all_again(server, tmp_path, behaviour):
    server.behaviour = behaviour
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:12_345])
    fetch(server.url, tmp_path / "data.bin", MD5)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing_behind(server, tmp_path):
    with pytest.raises(DownloadFailed, match=f"MD5 is {MD5}, expected {'0' * 32}"):
        fetch(server.url, tmp_path / "data.bin", "0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_a_partial_file_of_something_else_is_thrown_away(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(b"x" * (len(CONTENT) + 5))
    with pytest.raises(DownloadFailed, match="MD5"):
        fetch(server.url, tmp_path / "data.bin", MD5)
    fetch(server.url, tmp_path / "data.bin", MD5)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_an_address_that_is_gone_is_named_without_trying_again(server, tmp_path):
    with pytest.raises(DownloadFailed, match=r"/gone\.bin: HTTP Error 404"):
        fetch(server.url.replace("data", "gone"), tmp_path / "gone.bin", MD5)
    assert len(server.ranges) == 1


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
    assert found == {
        "set/mine.txt": "mine",
        "set/a.bin": "set/a.bin",
        "set/deep/b.bin": "set/deep/b.bin",
        "top.txt": "top.txt",
    }


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
