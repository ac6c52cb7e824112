"""The forecasting case study: NBA results, ratings, questions, and scores of stated probabilities."""
