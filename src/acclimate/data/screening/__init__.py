"""What each text and label goes through: cleaning, quality, language, personal data, doubtful labels, drift."""
