"""A run folder belongs to one process at a time."""

from edgekd.run_folder import run_lock


def test_second_process_is_refused(tmp_path, run_python):
    code = (
        "import sys; from pathlib import Path; from edgekd.run_folder import run_lock\n"
        "from edgekd.errors import InputError\n"
        "try:\n"
        "    with run_lock(Path(sys.argv[1])): pass\n"
        "except InputError as error: print(error)"
    )
    with run_lock(tmp_path):
        result = run_python(code, tmp_path)
    assert result.returncode == 0
    assert "one process may work on a run folder" in result.stdout
    with run_lock(tmp_path):  # released again
        pass
