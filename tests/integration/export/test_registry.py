"""What a list of runtimes loads."""


def test_listing_imports_no_runtime(run_python):
    code = (
        "import sys; from edgekd.export.registry import exporters; assert 'onnx' in exporters();"
        "print([name for name in ('torch', 'onnx', 'onnxruntime') if name in sys.modules])"
    )
    assert run_python(code).stdout.strip() == "[]"
