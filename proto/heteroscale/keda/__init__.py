"""KEDA's external-scaler API, generated from KEDA's own file beside this one; serves no other wire."""
