"""How few weights are enough? Cross-validate the budget and take the smallest that is as good as the best.

Run: python examples/choose_a_budget.py
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split

from sparelu.estimators import SparseReLUClassifier

BUDGETS = [50, 100, 200, 400]


def smallest_within_one_standard_error(results: dict[str, np.ndarray]) -> int:
    """Index of the smallest budget whose mean score is within one standard error of the best mean."""
    mean, error = results["mean_test_score"], results["std_test_score"] / np.sqrt(3)
    good = np.flatnonzero(mean >= (mean - error)[mean.argmax()])
    return int(good[np.argmin(results["param_nonzeros"][good].astype(int))])


def main() -> None:
    """Search, then judge the choice on rows that the search did not see."""
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
    search = GridSearchCV(
        SparseReLUClassifier(hidden=(50,), settings={"least": 1500}, random_state=0),  # a quarter of the usual steps
        {"nonzeros": BUDGETS},
        cv=3,
        refit=smallest_within_one_standard_error,
    ).fit(x_train, y_train)
    for k, mean, sd in zip(BUDGETS, *(search.cv_results_[f"{s}_test_score"] for s in ("mean", "std")), strict=True):
        print(f"{k:5d} nonzeros: accuracy {mean:.3f} +- {sd:.3f} over 3 folds")
    model = search.best_estimator_
    print(
        f"chosen: {model.nnz_} nonzeros, {model.support_.sum()} of {x.shape[1]} pixels read, "
        f"test accuracy {model.score(x_test, y_test):.3f}"
    )


if __name__ == "__main__":
    main()
