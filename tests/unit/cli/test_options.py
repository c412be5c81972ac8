from typing import get_args

from edgekd.cli.options import SamplerOption
from edgekd.runtime.sampler_names import ALIASES


def test_the_help_names_every_sampler():
    """It is written out there: to load the runtime takes longer than to show a help."""
    _, option = get_args(SamplerOption)
    assert option.help.startswith(", ".join(ALIASES) + ", or ")
