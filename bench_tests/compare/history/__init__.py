"""The runs of many nights: what is kept of them, and since when a figure is another."""
