"""One number a row, as GLUE's STS-B (Wang et al. 2019, https://arxiv.org/abs/1804.07461); texts may come in pairs."""
