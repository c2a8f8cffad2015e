# One image for every service; the command says which. Multi-stage, so that npm's cache and the build's tools stay out.
FROM node:24-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev

FROM node:24-bookworm-slim
# A first process that passes signals on and reaps what agents leave behind.
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=packages /app/node_modules ./node_modules
COPY package.json ./
COPY gen ./gen
COPY services ./services
RUN install -d -o node -g node /data
USER node
ENV DRAWBRIDGE_DIRECTORY=/data NODE_ENV=production
VOLUME /data
ENTRYPOINT ["tini", "--", "node", "/app/services/drawbridge.ts"]
CMD ["up"]
