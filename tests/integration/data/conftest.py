from fixtures.captioned import fill_folder

__all__ = ["fill_folder"]
