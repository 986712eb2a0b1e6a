from stellwerk_image import AMLResponse

__all__ = ["AMLResponse"]
