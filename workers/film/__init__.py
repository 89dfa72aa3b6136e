"""Films on disk: encode, join, cut, picture and measure. ffmpeg-python builds every graph; PyAV measures."""
