import pytest

from edgekd.report.search import front_table


@pytest.mark.parametrize(("sizes", "head"), [("measured", "size"), ("computed", "size (computed)")])
def test_the_front_says_how_sizes_are_known(full_report, sizes, head):
    search = full_report.search.model_copy(update={"sizes": sizes})
    table = front_table(full_report.model_copy(update={"search": search}))
    assert table is not None
    assert table.head[4] == head
