"""Any number of labels a row: one sigmoid a label (Nam et al. 2014, https://arxiv.org/abs/1312.5419)."""
