"""Datasets, workdirs and files on gs://, s3:// and other object stores: access, and copies on this machine."""
