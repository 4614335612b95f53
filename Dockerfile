# jaxseq on a CPU, as the user 1000 without privileges:
#
#     docker build -t jaxseq .
#     docker run --rm -v "$PWD/runs:/home/jaxseq/runs" jaxseq                         # trains on the prices in the package
#     docker run --rm -v "$PWD/runs:/home/jaxseq/runs" jaxseq jaxseq.forecast runs/aapl-0001
#
# The folder that is mounted has to be writable by that user.

# For .devcontainer: git and a compiler are there, the package is not.
FROM python:3.12-bookworm AS develop
RUN useradd --create-home --uid 1000 jaxseq
USER 1000

FROM python:3.12-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY jaxseq jaxseq
RUN pip install --no-cache-dir --prefix=/installed -c constraints.txt .

FROM python:3.12-slim-bookworm
COPY --from=build /installed /usr/local
RUN useradd --create-home --uid 1000 jaxseq
USER 1000
WORKDIR /home/jaxseq
ENTRYPOINT ["python", "-m"]
CMD ["jaxseq.train"]
