"""The rebuild of the starter without its packages."""


def test_without_resvg_it_imports_and_says_what_to_install(tmp_path, run_python):
    code = (
        "import sys; sys.modules['resvg_py'] = None\n"
        "import importlib.util\n"
        "importlib.util.find_spec = lambda name: None\n"
        "from tools.starter.build import main\n"
        f"sys.argv = ['build', '--out', {str(tmp_path / 'x.parquet')!r}]\n"
        "sys.exit(main())"
    )
    result = run_python(code)
    assert result.returncode == 2
    assert "pip install edgekd[starter-build]" in result.stderr
    assert list(tmp_path.iterdir()) == []
