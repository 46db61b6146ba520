-- An amount that NI has applied and that no entry bears out.
INSERT INTO ni.applied (bucket, account, applied) VALUES (0, 'CZ1', 100);
