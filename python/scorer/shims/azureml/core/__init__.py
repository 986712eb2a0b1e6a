from stellwerk_image import Model

__all__ = ["Model"]
