from fixtures.bench import bench, make_bench
from fixtures.unets import make_unet, predict

__all__ = ["bench", "make_bench", "make_unet", "predict"]
