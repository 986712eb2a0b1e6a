from stellwerk_image import Model, ModelNotFoundException

__all__ = ["Model", "ModelNotFoundException"]
