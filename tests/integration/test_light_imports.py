"""What must load without its heavy neighbours."""

import pytest

LIGHT = ["cli", "cli.options", "errors", "reading", "schema", "resources", "artifacts"]
LIGHT += ["files", "file_record", "folders", "run_folder", "progress", "recipe", "target"]
LIGHT += ["jobs.summary", "serve.__main__", "devices.__main__"]


def test_runtime_loads_nothing_heavy(run_python):
    heavy = ["torch", "diffusers", "transformers", "onnxruntime", "openvino", "PIL", "pydantic"]
    code = (
        "import sys, edgekd.runtime, edgekd.runtime.__main__\n"
        f"sys.exit(', '.join(name for name in {heavy!r} if name in sys.modules) or 0)"
    )
    result = run_python(code)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_worker_loads_only_what_draws(run_python):
    heavy = ["torch", "diffusers", "transformers", "fastapi", "uvicorn", "pydantic", "PIL"]
    code = (
        "import sys, edgekd.serve.worker\n"
        f"sys.exit(', '.join(name for name in {heavy!r} if name in sys.modules) or 0)"
    )
    result = run_python(code)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_measuring_process_loads_nothing_before_its_work(run_python):
    heavy = ["torch", "numpy", "pydantic", "fastapi", "onnxruntime", "asyncio"]
    code = (
        "import sys, edgekd.devices.worker\n"
        f"sys.exit(', '.join(name for name in {heavy!r} if name in sys.modules) or 0)"
    )
    result = run_python(code)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("heavy", ["torch", "numpy", "diffusers", "onnxruntime", "matplotlib"])
def test_light_modules_load_nothing_heavy(heavy, run_python):
    modules = ", ".join(f"edgekd.{name}" for name in LIGHT)
    code = f"import sys, {modules}; sys.exit({heavy!r} in sys.modules)"
    assert run_python(code).returncode == 0


def test_help_loads_no_torch(run_python):
    code = (
        "import sys; sys.argv = ['edgekd', '--help']\n"
        "from edgekd.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "sys.exit('torch' in sys.modules)"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert "distill" in result.stdout
