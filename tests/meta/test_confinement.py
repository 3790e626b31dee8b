"""The confined child with every check bypassed: what foreign code tries comes to nothing, and each end has a reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from whisper_parity.errors import BackendError
from whisper_parity.system import child as children
from whisper_parity.system import landlock, seccomp, tool
from whisper_parity.system.child import Child, Limits

MODULE = "tests.support.escapes"
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux takes these rights from a process")


@pytest.fixture(autouse=True)
def the_module_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the child, which gets this variable and not the next one."""
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.setenv("SITE_TOKEN", "secret")


@pytest.fixture
def child() -> Iterator[Child]:
    """With limits of a test."""
    child = Child(MODULE, [], Limits(call_s=20, memory_bytes=2**30))
    yield child
    child.close()


def said(child: Child, code: str) -> str:
    return child.call("the file", {"code": code}).text


def granted(child: Child, measure: str) -> None:
    """Skip what this kernel or container does not offer: then the note does not claim it either."""
    if measure not in child.confinement:
        pytest.skip(f"not in force here: {measure} (in force: {child.confinement})")


WRITES = {
    "a new file": "open({path!r}, 'w').write('x')",
    "a file in its own folder": "open('x', 'w').write('x')",
    "over a file": "open({old!r}, 'r+').write('x')",
    "a folder": "import os; os.mkdir({path!r})",
    "a link": "import os; os.symlink({old!r}, {path!r})",
    "a removal": "import os; os.unlink({old!r})",
    "another name": "import os; os.rename({old!r}, {path!r})",
    "other rights": "import os; os.chmod({old!r}, 0)",
    "a cut": "import os; os.truncate({old!r}, 0)",
    "a pipe": "import os; os.mkfifo({path!r})",
    "other memory": "open('/proc/self/mem', 'r+b').write(b'x')",
}
FUNCTION = "import ctypes, os\nif ctypes.CDLL(None).{}: raise OSError"
CALLS = {
    "a socket": "import socket; socket.socket()",
    "a local socket": "import socket; socket.socket(socket.AF_UNIX)",
    "a pair of sockets": "import socket; socket.socketpair()",
    "a process": "import os; os.fork()",
    "a fork bomb": "import os\nwhile True: os.fork()",
    "a program": "import subprocess; subprocess.run(['/bin/true'])",
    "becoming a program": "import os; os.execv('/bin/true', ['true'])",
    "killing its parent": "import os; os.kill(os.getppid(), 9)",
    "killing all": "import os; os.kill(-1, 9)",
    "leaving its group": "import os; os.setsid()",
    "memory with a name": "import os; os.memfd_create('x')",
    "a signal by a descriptor": "import fcntl, os; fcntl.fcntl(2, 8, os.getppid())",
    "another's processor": "import os; os.sched_setaffinity(os.getppid(), {0})",
    "another's limits": "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "outliving its parent": FUNCTION.format("prctl(1, 0, 0, 0, 0)"),
    "a debugger": FUNCTION.format("ptrace(16, os.getppid(), 0, 0)"),
    "a ring of requests": FUNCTION.format("syscall(425, 1, 0)"),
}
READS = {
    "a file of the user's": "result = open({old!r}).read()",
    "a folder of the user's": "import os; result = os.listdir({folder!r})",
    "passwords": "result = open('/etc/passwd').read()",
    "its parent's environment": "import os; result = open(f'/proc/{{os.getppid()}}/environ').read()",
}


def test_a_package_that_writes_when_it_is_imported_ends_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What datasets brings along, torch imports and dill opens /dev/null for: every given file failed beside it."""
    (tmp_path / "dill.py").write_text("import os\nopen(os.devnull, 'wb')\n", "utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{CHECKOUT}")
    child = Child(MODULE, [tmp_path], Limits(call_s=60, memory_bytes=2**31))
    try:
        assert said(child, "import torch.utils.data; result = torch.ones(2).sum().item()") == "done: 2.0"
    finally:
        child.close()


@LINUX
@pytest.mark.parametrize("case", WRITES)
def test_nothing_outside_is_written(child: Child, tmp_path: Path, case: str):
    """No file, no folder, no name, no right changes."""
    granted(child, "no writes")
    (tmp_path / "old").write_text("as it was", "utf-8")
    text = said(child, WRITES[case].format(path=str(tmp_path / "new"), old=str(tmp_path / "old")))
    assert text.startswith(("PermissionError", "OSError")), text
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text("utf-8") == "as it was"


@LINUX
@pytest.mark.parametrize("case", CALLS)
def test_no_network_no_process_no_signal(child: Child, case: str):
    """The kernel answers that it is not permitted, and the child goes on."""
    granted(child, "seccomp")
    assert said(child, CALLS[case]).startswith(("PermissionError", "OSError")), case
    assert said(child, "result = 1") == "done: 1"


@LINUX
@pytest.mark.parametrize("case", READS)
def test_what_is_the_user_s_is_not_read(child: Child, tmp_path: Path, case: str):
    """Python's and the system's folders are."""
    granted(child, "reads of")
    (tmp_path / "old").write_text("mine", "utf-8")
    code = READS[case].format(old=str(tmp_path / "old"), folder=str(tmp_path))
    assert said(child, code).startswith("PermissionError"), case


def test_secrets_of_the_environment_stay_outside(child: Child):
    """What Python and arithmetic do not read is not handed on."""
    assert said(child, "import os; result = os.environ.get('SITE_TOKEN')") == "done: None"
    assert "PATH" in os.environ
    assert said(child, "import os; result = 'PATH' in os.environ") == "done: True"


@LINUX
def test_a_memory_bomb_meets_the_limit(child: Child):
    """An error of that process, and nobody else's."""
    assert said(child, "result = len(bytearray(2**31))").startswith("MemoryError")


@LINUX
def test_many_files_meet_the_limit(child: Child):
    """Descriptors are counted."""
    assert said(child, "kept = []\nwhile True: kept.append(open('/dev/null'))").startswith("OSError: [Errno 24]")


ENDS = {
    "an endless loop": ("while True: pass", r"the file: no answer in 2 s; its process was ended"),
    "a sleep": ("import time; time.sleep(60)", r"the file: no answer in 2 s; its process was ended"),
    "an abort": ("import os; os.abort()", r"the file: its process died by signal 6 \(Aborted\)"),
    "an exit": ("import os; os._exit(7)", r"the file: its process ended with exit code 7"),
    "a crash": (
        "import ctypes; ctypes.string_at(0)",
        r"the file: its process died by signal 11 \(Segmentation fault\)",
    ),
    "last words": (
        "import sys, os; print('so\\x1b[2J much', file=sys.stderr, flush=True); os.abort()",
        r"the file: its process died by signal 6 \(Aborted\); it last said: so\\x1b\[2J much",
    ),
    "garbage": (
        "import os\nfor number in range(3, 20):\n  try: os.write(number, b'x' * 64)\n  except OSError: pass",
        r"the file: its process sent what is no answer \(a message that starts with b'xxxx'",
    ),
}


@pytest.mark.parametrize("case", ENDS)
def test_each_end_has_a_reason(case: str):
    """It stands for all further calls: the process is not started again."""
    code, reason = ENDS[case]
    child = Child(MODULE, [], Limits(call_s=2))
    try:
        for _ in range(2):
            with pytest.raises(BackendError, match=reason):
                child.call("the file", {"code": code})
        assert child._pipes._process.poll() is not None
    finally:
        child.close()


@LINUX
def test_processor_time_is_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch):
    """Where nobody is left to look at the clock."""
    monkeypatch.setattr(children.os, "cpu_count", lambda: 0.01)
    child = Child(MODULE, [], Limits(call_s=60))
    try:
        with pytest.raises(BackendError, match=r"died by signal 24 \(CPU time limit exceeded\)"):
            child.call("the file", {"code": "while True: pass"})
    finally:
        child.close()


@LINUX
def test_a_child_does_not_outlive_its_parent():
    """Even one that is killed; and the end of a thread that started one ends nothing."""
    code = (
        "import threading, time; from whisper_parity.system.child import Child, Limits\n"
        "kept = []\n"
        f"thread = threading.Thread(target=lambda: kept.append(Child({MODULE!r}, [], Limits())))\n"
        "thread.start(); thread.join(); time.sleep(0.5)\n"
        "print(kept[0].call('x', {'code': 'import os; result = os.getpid()'}).text, flush=True)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    process = int(parent.stdout.readline().removeprefix("done: "))
    os.kill(process, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert any(_gone(process) for _ in range(500))


def _gone(process: int) -> bool:
    time.sleep(0.01)
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"  # nobody here to wait
    except OSError:
        return True


def test_what_is_not_in_force_is_not_claimed():
    """A kernel without Landlock and filters: limits are what is left."""
    from whisper_parity.system import confine

    assert str(confine.Confinement(tuple(confine._measures(0, False, False, False)))).startswith("nothing is kept")
    limits = "no bytes into files, no core files (resource limits)"
    assert list(confine._measures(0, False, False, True)) == [limits]
    reads = "reads of Python's and the system's folders and this file only (Landlock 3)"
    assert list(confine._measures(3, False, True, True)) == ["no writes (Landlock 3)", reads, "no privileges", limits]
    assert "no network (Landlock 4, TCP only)" in list(confine._measures(4, False, True, True))


@LINUX
@pytest.mark.parametrize("missing", ["landlock", "seccomp"])
def test_either_of_the_two_alone_refuses_writes(tmp_path: Path, missing: str):
    """They stand behind each other: a container may offer one of them."""
    if landlock.version() == 0:
        pytest.skip("this kernel has no Landlock")
    code = (
        "import os; from pathlib import Path; from whisper_parity.system import confine, landlock, seccomp\n"
        f"{missing}.{'restrict' if missing == 'landlock' else 'install'} = lambda *a, **k: 0\n"
        "print(confine.confine([], os.getppid()))\n"
        f"try: open({str(tmp_path / 'new')!r}, 'w')\nexcept PermissionError: print('refused')"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    measures, outcome = process.stdout.splitlines()
    assert outcome == "refused"
    assert ("Landlock" in measures, "seccomp" in measures) == (missing == "seccomp", missing == "landlock")
    assert not any(tmp_path.iterdir())


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("machine", HEADERS)
def test_numbers_of_calls_are_the_kernel_s(machine: str):
    """By its own headers, where they are installed."""
    if not HEADERS[machine].is_file():
        pytest.skip(f"no {HEADERS[machine]} here")
    words = (line.split() for line in HEADERS[machine].read_text("utf-8").splitlines())
    defined = [line for line in words if len(line) > 2 and line[0] == "#define" and line[2].isdigit()]
    numbers = {name.removeprefix("__NR_").removeprefix("__NR3264_"): number for _, name, number, *_ in defined}
    numbers.setdefault("newfstatat", numbers.get("fstatat", ""))
    column, _ = seccomp.MACHINES[machine]
    for name, both in {**seccomp.NUMBERS, **seccomp.ASKED, **seccomp.MISSING, **seccomp.REFUSED_TO_TOOLS}.items():
        if (number := both[column]) is not None:
            assert numbers[name] == str(number), name


def test_children_are_started_by_a_thread_that_stays():
    """Linux ends a child with the thread that started it."""
    names = []
    thread = threading.Thread(target=lambda: names.append(children._nursery.submit(threading.get_ident).result()))
    thread.start()
    thread.join()
    assert names == [children._nursery.submit(threading.get_ident).result()]


@LINUX
@pytest.mark.parametrize("work", ["writes", "connects"])
def test_a_program_of_others_writes_its_results_and_nothing_else(tmp_path: Path, work: str):
    """MediaTek's tools on a given file: they may read and compute, and start what they need."""
    if landlock.version() == 0:
        pytest.skip("this kernel has no Landlock")
    (tmp_path / "results").mkdir()
    code = {
        "writes": f"import subprocess; subprocess.run(['/bin/sh', '-c', 'echo x > {tmp_path}/results/a'], check=True); "
        f"open({str(tmp_path / 'elsewhere')!r}, 'w')",
        "connects": "import socket; socket.socket()",
    }[work]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = tool.command([sys.executable, "-c", code], [tmp_path / "results"])
    process = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert process.stderr.splitlines()[-1].startswith("PermissionError"), process.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["results", *(["a"] if work == "writes" else [])]
