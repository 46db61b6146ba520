-- The mode of the bank.
SELECT mode FROM ni.mode WHERE one;
