"""server_info.txt is read as untrusted input, written whole, and removed by its owner alone."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from bench_tests.errors import UsageError
from bench_tests.server.info import MAX_BYTES, ServerInfo, read_server_info, remove_if_ours, write_server_info

WHOLE = ServerInfo(
    url="http://gpu1:8000",
    profile="kimi_k2",
    model="moonshotai/Kimi-K2-Thinking",
    job_id="4711",
    api_key="s3cret=key==",
    started="2026-02-13T07:52:58Z",
    hostname="gpu1",
    port=8000,
)


def test_what_is_written_is_read_and_only_the_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "shared" / "server_info.txt"
    write_server_info(path, WHOLE)
    assert read_server_info(path) == WHOLE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().splitlines()[0] == "http://gpu1:8000"
    assert os.listdir(path.parent) == ["server_info.txt"]


def test_the_bare_url_alone_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "info"
    path.write_text("http://10.0.0.7:8123/v1/")
    assert read_server_info(path) == ServerInfo(url="http://10.0.0.7:8123", port=8123)
    path.write_text("https://llm.example.com/team\r\n\r\n# by hand\nmodel = m\ncolour=blue\nprofile=\n")
    assert read_server_info(path) == ServerInfo(url="https://llm.example.com/team", model="m")


def test_the_key_shows_in_no_repr() -> None:
    assert "s3cret" not in repr(WHOLE)
    assert "s3cret" not in f"{WHOLE}"


@pytest.mark.parametrize(
    "text, line, about",
    [
        ("", "line 1", "URL"),
        ("\nhttp://x:1\n", "line 1", "URL"),
        ("gpu1:8000\n", "line 1", "URL"),
        ("file:///etc/passwd\n", "line 1", "URL"),
        ("http://\n", "line 1", "URL"),
        ("http://h:99999\n", "line 1", "Port"),
        ("http://h:80 80\n", "line 1", "blanks"),
        ("http://h\x1b[2J\n", "line 1", "control"),
        ("http://me:pw@h:80\n", "line 1", "password"),
        ("http://h:80/?x=1\n", "line 1", "query"),
        ("http://h:80\nprofile\n", "line 2", "="),
        ("http://h:80\n\nmodel=a\nmodel=b\n", "line 4", "twice"),
        ("http://h:80\njob_id=-rf\n", "line 2", "job_id"),
        ("http://h:80\njob_id=1;reboot\n", "line 2", "job_id"),
        ("http://h:80\nport=0\n", "line 2", "port"),
        ("http://h:80\nport=٣\n", "line 2", "port"),
        ("http://h:80\nmodel=a\x07b\n", "line 2", "model"),
    ],
)
def test_a_bad_line_is_told_with_its_number(tmp_path: Path, text: str, line: str, about: str) -> None:
    path = tmp_path / "info"
    path.write_text(text)
    with pytest.raises(UsageError) as told:
        read_server_info(path)
    message = str(told.value)
    assert str(path) in message
    assert line in message
    assert about in message
    assert "\n" not in message
    assert message.isprintable()


def test_a_bad_key_is_told_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "info"
    path.write_text("http://h:80\napi_key=sec ret\n")
    with pytest.raises(UsageError) as told:
        read_server_info(path)
    assert "api_key" in str(told.value)
    assert "ret" not in str(told.value).replace("printable", "")


def test_what_is_no_small_text_file_is_refused(tmp_path: Path) -> None:
    big, binary, fifo = tmp_path / "big", tmp_path / "binary", tmp_path / "fifo"
    big.write_text("http://h:80\n" + "x=1\n" * MAX_BYTES)
    binary.write_bytes(b"http://h:80\n\xff\xfe")
    os.mkfifo(fifo)
    for path, about in [
        (big, "larger"),
        (binary, "UTF-8"),
        (fifo, "regular"),
        (tmp_path, "regular"),
        (tmp_path / "no", "No such"),
    ]:
        with pytest.raises(UsageError, match=about):
            read_server_info(path)


def test_what_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    for bad in (ServerInfo(url="http://h:1", model="a\nb=c"), ServerInfo(url="http://h:1\nmodel=x")):
        with pytest.raises(UsageError):
            write_server_info(tmp_path / "info", bad)
    assert os.listdir(tmp_path) == []


def test_removed_only_while_it_is_ours(tmp_path: Path) -> None:
    path = tmp_path / "info"
    assert not remove_if_ours(path, "4711")
    write_server_info(path, WHOLE)
    assert not remove_if_ours(path, "4712")
    assert not remove_if_ours(path, "4711", "2026-02-13T07:00:00Z")
    assert read_server_info(path) == WHOLE
    assert remove_if_ours(path, "4711")
    assert os.listdir(tmp_path) == []
    path.write_text("http://h:80\n")
    assert not remove_if_ours(path, "4711")
    assert path.exists()


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "info"
    write_server_info(path, WHOLE)
    stop = threading.Event()

    def write_on() -> None:
        while not stop.is_set():
            write_server_info(path, WHOLE)

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        assert all(read_server_info(path) == WHOLE for _ in range(300))
    finally:
        stop.set()
        writer.join()
