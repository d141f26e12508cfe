"""PC-DARTS with fused operators: the search of Xu et al. (ICLR 2020) without its copies."""
