"""One label a row (Devlin et al. 2019, section 4.1, https://arxiv.org/abs/1810.04805); texts may come in pairs."""
