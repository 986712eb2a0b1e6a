from stellwerk_image import Model

__all__ = ["Model"]


def __getattr__(name):
    """What else a script may import from here comes from the SDK, if the image has it."""
    import stellwerk.core

    return getattr(stellwerk.core, name)
