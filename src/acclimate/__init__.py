"""acclimate: take a pretrained text encoder to a domain, with the evidence for each step."""

__version__ = "0.1.0"
