"""One fit that is measured.

Read ``trial`` first (what is asked and what came of it), then ``run_folder`` (its files), ``budget_path`` with
``folds`` and ``one_standard_error`` (which budget), and ``task`` (what any sweep can run).
"""
