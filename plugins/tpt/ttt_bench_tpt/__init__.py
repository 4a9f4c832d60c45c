"""Test-time prompt tuning (Shu et al., NeurIPS 2022) and the prompt learners it starts from."""
