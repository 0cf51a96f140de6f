"""The span of a context that answers a question, or none, as in SQuAD (Rajpurkar et al. 2018, https://arxiv.org/abs/1806.03822).

Start and end are read off each token as by BERT (Devlin et al. 2019, sections 4.2 and 4.3, https://arxiv.org/abs/1810.04805).
"""
