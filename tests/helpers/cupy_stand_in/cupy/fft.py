"""CuPy's ``fft``, of which nothing is used."""
