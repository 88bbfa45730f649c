"""The bundled data sets, and the script that made them."""
