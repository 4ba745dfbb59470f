"""The supervised wing: from rows to a fitted network, behind scikit-learn's conventions."""
