from fixtures.unets import make_unet

__all__ = ["make_unet"]
