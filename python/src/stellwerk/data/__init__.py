"""The places of `azureml.data`."""
