from edgekd.files import check_writable as check_writable
from edgekd.files import disk_problem as disk_problem
from edgekd.files import making as making
from edgekd.files import writing as disk_errors
from edgekd.files import writing as writing

__all__ = ["check_writable", "disk_errors", "disk_problem", "making", "writing"]
