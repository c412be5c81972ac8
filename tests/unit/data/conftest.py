from fixtures.captioned import encode, fill_folder, picture, write_tar

__all__ = ["encode", "fill_folder", "picture", "write_tar"]
