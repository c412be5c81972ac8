from coremltools.converters.mil.mil import Program

from edgekd.export.coreml.library import converting


def test_coremltools_searches_itself_for_mistakes_again_afterwards():
    validate = Program.validate
    try:
        with converting():
            assert Program.validate is not validate
            raise ZeroDivisionError
    except ZeroDivisionError:
        assert Program.validate is validate
