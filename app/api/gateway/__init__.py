"""The AI Gateway interface: the video protocol of Vercel's AI SDK, for its createGateway({baseURL})."""
