"""Gender and age estimators."""
