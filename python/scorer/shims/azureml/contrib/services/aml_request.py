from stellwerk_image import AMLRequest, rawhttp

__all__ = ["AMLRequest", "rawhttp"]
