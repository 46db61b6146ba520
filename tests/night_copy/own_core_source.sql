-- What such a bank tells NI: relation, key, and an expression for each column of the copy.
UPDATE ni.night_source SET source = 'abs.account', key = 'number', condition = 'NOT r.hidden',
       lookups = '{abs.product}', columns = '{
    "kind": "CASE WHEN abs.is_own(r.product) THEN ''internal'' ELSE ''customer'' END",
    "currency": "r.currency",
    "status": "CASE WHEN r.closed_on IS NULL THEN ''active'' ELSE ''closed'' END",
    "balance": "r.credit - r.debit",
    "credit_limit": "r.overdraft"}'
 WHERE relation = 'account';
UPDATE ni.night_source SET source = 'abs.arrest', key = 'id', columns = '{
    "account": "r.account", "side": "''debit''", "legal_reference": "r.order_number",
    "valid_from": "r.since", "valid_to": "r.until"}'
 WHERE relation = 'block';
UPDATE ni.night_source SET source = 'abs.calendar', key = NULL, columns = '{
    "business_date": "r.current_day", "next_business_date": "r.next_day"}'
 WHERE relation = 'ledger';
