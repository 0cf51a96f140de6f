"""Ways to pretrain, one file each; the file name is the name in params.yaml."""
