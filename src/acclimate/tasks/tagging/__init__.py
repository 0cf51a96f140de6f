"""A BIO tag for each word, read at its first sub-token (Devlin et al. 2019, section 5.3, https://arxiv.org/abs/1810.04805)."""
