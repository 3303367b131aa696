import pytest
from lakevec.jobs.credentials import without_credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://user:p%40ss@host/db", "postgresql://host/db"),
        ("mysql+pymysql://user:pa/ss@host:3306/db", "mysql+pymysql://host:3306/db"),
        ("postgresql://user:p@ss/w:rd@host/db", "postgresql://host/db"),
        ("postgresql://user:12345@host/db", "postgresql://host/db"),
        ("postgresql://:pw@host/db", "postgresql://host/db"),
        ("http:/user:pw@host:5000/a", "http:/host:5000/a"),
        ("http:///user:pw@host", "http:///host"),
        ("https://dapi123@host/a", "https://host/a"),
        ("https://dapi123@host:5000/a@b", "https://host:5000/a@b"),
        ("postgresql://me@there:pw@host/db", "postgresql://host/db"),
        ("https://me@example.org:pw@host/db", "https://host/db"),
        ("postgresql://user:it's@host/db", "postgresql://host/db"),
        ("HTTP://me:secret@host", "HTTP://host"),
        ("http://host:5000?password=pw", "http://host:5000?password=***"),
        ("http://host/a?x=1&token=to/k+en%3D&y=2", "http://host/a?x=1&token=***&y=2"),
        ("postgresql://host/db?user=me&password=pw", "postgresql://host/db?user=me&password=***"),
        ("postgresql://host/db?sslpassword=pw", "postgresql://host/db?sslpassword=***"),
        ("jdbc:sqlserver://host;user=me;password=pw;encrypt=true", "jdbc:sqlserver://host;user=me;password=***;encrypt=true"),
        ("https://b.s3.amazonaws.com/k?X-Amz-Signature=ab&X-Amz-Date=1", "https://b.s3.amazonaws.com/k?X-Amz-Signature=***&X-Amz-Date=1"),
        ("https://a.blob.core.windows.net/c?sv=1&sig=a%2Fb", "https://a.blob.core.windows.net/c?sv=1&sig=***"),
        ("https://host/c?sas_token=ab", "https://host/c?sas_token=***"),
        ("request to 'http://u:p/w@h' failed, 'a@b'", "request to 'http://h' failed, 'a@b'"),
        ("http://a:b/c@h and http://u:p@h2, to me@example.org", "http://h and http://h2, to me@example.org"),
    ],
)  # fmt: skip
def test_secrets_of_an_address_are_left_out(text, shown):
    assert without_credentials(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////data/lake-mlflow.db",
        "sqlite:////data/a:b@c.db",
        "file:///data/a:b@c/lake",
        "dbfs:/a:b@c/lake",
        "/data/user:x@y/lake",
        "C:/lake/a@b",
        "http://there:5000/a@b",
        "http://[::1]:5000/a@b",
        "http://there:5000?mail=a@b",
        "http://there/a:b@c",
        "http://there/?page_token=5&monkey=1&keyword=password",
        "abfss://container@account.dfs.core.windows.net/lake",
        "ssh://git@there/a",
        "s3a://bucket/a=1/b@c",
        "token=address.credentials, password=given",
        "Ann <ann@example.org>: 10:30 @ noon",
        'File "/a/b.py", line 3, in main: @decorator',
    ],
)
def test_what_is_no_secret_stays_as_it_is(text):
    assert without_credentials(text) == text
