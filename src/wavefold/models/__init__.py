"""Models: nets trained by the training loop, and members that are fitted in one step. One file per family."""

from torch import nn

from wavefold.core.registry import Table
from wavefold.models.classical import Boosting, ExtraTrees, Logistic, RandomForest
from wavefold.models.cnn import Net1, Net2, Net3, Net5
from wavefold.models.cnn_lstm import LSTM, Net4
from wavefold.models.kernels import KernelClassifier
from wavefold.models.labellers import LABELLERS
from wavefold.models.layers import prepare_for_prediction
from wavefold.models.regressors import REGRESSORS
from wavefold.models.repvgg import RepVGG
from wavefold.models.resnet import Net6
from wavefold.models.sklearn_adapter import sklearn_member
from wavefold.models.split_sum import SplitSumNet
from wavefold.models.summary import Layer, count_parameters, describe

MODELS: Table[type[nn.Module]] = Table(
    "models",
    {
        "net1": Net1,
        "net2": Net2,
        "net3": Net3,
        "net4": Net4,
        "net5": Net5,
        "net6": Net6,
        "repvgg": RepVGG,
        "lstm": LSTM,
        "split_sum": SplitSumNet,
    },
)

CLASSIFIERS: Table[type] = Table(
    "classifiers",
    {
        "kernels": KernelClassifier,
        "lightgbm": Boosting,
        "random_forest": RandomForest,
        "extra_trees": ExtraTrees,
        "logistic": Logistic,
        "knn": "wavefold.models.sklearn_members:NearestNeighbours",
        "svm": "wavefold.models.sklearn_members:SupportVectorMachine",
        "hist_boosting": "wavefold.models.sklearn_members:HistBoosting",
        "mlp": "wavefold.models.sklearn_members:Perceptron",
    },
)

__all__ = [
    "CLASSIFIERS",
    "LABELLERS",
    "MODELS",
    "REGRESSORS",
    "Layer",
    "count_parameters",
    "describe",
    "prepare_for_prediction",
    "sklearn_member",
]
