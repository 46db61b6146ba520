-- What was answered to a client's key of a command without an account.
SELECT fingerprint, decision, document FROM ni.request
 WHERE bucket = 0 AND client = $1 AND key = $2;
